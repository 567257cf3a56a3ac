"""What happens when two want the same object or field. Pure.

Reading order: `existing` (an object of that name is there and not ours), `fields` (another manager owns a field),
`immutable` (the server refuses to change a field), `fights` (somebody changes a field back each time). Each strategy is
registered under its name in the API; adding one touches one file and its test. Which of two placements gets an object
is `CompiledPlacement.precedence`.
"""
