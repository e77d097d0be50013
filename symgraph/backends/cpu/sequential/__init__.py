"""Operations whose steps depend on each other, as native loops: sorting, and writing where an index
says. Index expressions can say them only by looking at everything for every element.

May import `backends` and above.
"""
