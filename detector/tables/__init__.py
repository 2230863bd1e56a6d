"""Tables as people keep them: which column is the time, which names the stream, which are channels, and what is left.

encoding -> dialect -> delimited      bytes of a text file -> columns of text, and the rows that do not fit
numbers, dates, epochs, times         columns -> numbers and event times
names, roles                          what a column is, by its name and by what it holds
understanding                         all of it: a table -> readings, with what was taken and what was left
"""
