"""The native engine, built where that is possible; everything else about the package stands in pyproject.toml.

Without Cython, without its sources, or without a C compiler the package installs
all the same, and the Python twin runs. ``ZODBSH_ASAN=1`` builds with AddressSanitizer.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

MODULES = ("_scan", "_bulk", "_graph", "_trees", "_pack")
# A value is two words, each written and read by itself (see _scan.pyx): vectors would join them and wait.
FAST = ["-O3", "-fno-tree-slp-vectorize"]
ASAN = ["-fsanitize=address", "-fno-omit-frame-pointer", "-g", "-O1"]


class OptionalBuild(build_ext):
    """Goes on where the compiler is missing or fails; what setuptools' own ``optional`` catches is not all."""

    def build_extension(self, extension: Extension) -> None:
        """Build, or say why not."""
        try:
            super().build_extension(extension)
        except Exception as error:  # noqa: BLE001 - the errors of compilers have no base that all versions share
            self.warn(f"the native engine is not built, the Python twin will run: {error}")


def extensions() -> list[Extension]:
    """Return the extensions, or nothing where there is no source or no Cython."""
    folder = Path("zodbsh/engine")
    if not all((Path(__file__).parent / folder / f"{name}.pyx").exists() for name in MODULES):
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        return []
    asan = os.environ.get("ZODBSH_ASAN") == "1"
    found = [
        Extension(
            f"zodbsh.engine.{name}",
            [str(folder / f"{name}.pyx")],
            extra_compile_args=ASAN if asan else FAST,
            extra_link_args=["-fsanitize=address"] if asan else [],
        )
        for name in MODULES
    ]
    made: list[Extension] = cythonize(found, build_dir="build/cython")
    for extension in made:
        # An editable install must not look for what was not built. cythonize drops a mark that is set before it.
        extension.optional = True
    return made


setup(ext_modules=extensions(), cmdclass={"build_ext": OptionalBuild})
