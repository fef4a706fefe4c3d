"""The condition language: text in, a checked expression tree out. Nothing here is ever evaluated as Python."""
