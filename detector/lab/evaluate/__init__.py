"""What a detector is worth: labelled recordings, detectors to compare, and the measures that do not lie."""
