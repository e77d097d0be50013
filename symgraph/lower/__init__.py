"""From graphs to plans: loop nests and their schedules, printers, kernel selection, memory plan.

A nest says what a kernel computes, a schedule where; the printers turn both into text that a
compiler takes. May import passes/, cost/, graph/ and dims/.
"""
