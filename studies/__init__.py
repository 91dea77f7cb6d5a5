"""Studies: each is a question, answered by ``python -m studies.NAME``; ``python -m studies`` lists them."""

import os

# The compiled kernels take every core; BLAS threads that spin beside them slow small solves twentyfold.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
