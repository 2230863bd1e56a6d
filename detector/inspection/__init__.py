"""What people's data is, before anything is judged: facts about readings, what it takes to judge them, a configuration that does."""
