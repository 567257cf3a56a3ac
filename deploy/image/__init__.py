"""The container image: how `make image` builds and checks it. docs/image.md tells what is in it and how it is run.

Reading order: `build` (what happens), `names` (tag and version), `archive` (the built image, rewritten so that equal
content has equal bytes), `sbom`, `scan`. `gather` runs in the image's build stage and knows nothing of the others.
"""
