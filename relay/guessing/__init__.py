"""Guessing of passwords: who is put off, who is banned, and who never is."""
