"""The compiled parts, which pyproject.toml cannot say: built only where SOCKPROXY_COMPILED asks for them (`make compiled`).

Without it nothing here needs Cython or a compiler. With it a failure is one: who asks for them, wants them.
"""

import os

from setuptools import Extension, setup

COMPILED = ("forwarding/serving/express_c", "recording/prepared_c", "recording/metrics/counting_c")

if os.environ.get("SOCKPROXY_COMPILED"):
    modules = [Extension(f"sockproxy/{name}".replace("/", "."), [f"sockproxy/{name}.pyx"]) for name in COMPILED]
    setup(ext_modules=modules, setup_requires=["Cython>=3.1"])
else:
    setup()
