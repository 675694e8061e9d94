"""Published protocols to the letter: ``--preset NAME`` on `extract` and `fit`.

`recipes` says how features have to be made, `parts` which rows train, choose and score; one module
for each protocol does what its source does, traps included, and `run` turns that into a `Result`.
"""
