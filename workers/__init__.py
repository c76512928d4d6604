"""One folder per kind of process. A kind may import what is below it in `nvision_hub`, never another kind."""
