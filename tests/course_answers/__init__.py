"""How the exercises are answered: `lesson_NN.py` has RIGHT and WRONG, by exercise.

RIGHT[name] is a list of functions, written differently. WRONG[name] is a list of (function, hint): its docstring says
why a student writes it, and `hint` is a piece of the hint that it has to get.
"""
