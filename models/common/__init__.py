"""What the models share: command line, run folders, progress, metrics, pictures, interrupts.

May import: symgraph. Files here import no model, and each other only in this order:
runs < metrics < pictures, progress, interrupt < commandline, workers, saved < loop, classifier,
text < lowrank < trainer, language.
"""
