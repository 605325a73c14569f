"""The forms of the hot parts that are tested: Python always, the compiled one where it was built (make compiled)."""

import pytest

from sockproxy.operating.twins import PYTHON, compiled_twins

COMPILED = compiled_twins()

IF_COMPILED = pytest.mark.skipif(COMPILED is None, reason="the compiled parts are not built: make compiled")

FORMS = [pytest.param(PYTHON, id="python"), pytest.param(COMPILED, id="compiled", marks=IF_COMPILED)]
