"""Options, Hypothesis profiles and fixtures that every test may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

# `quick` and `ci` draw the same examples every time: a failure there is a failure for everybody.
# `deep` searches anew on each run and remembers what it found.
SLOW_HERE = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "quick", max_examples=20, derandomize=True, deadline=None, suppress_health_check=SLOW_HERE
)
# `mutants` only wants to know whether there is a failure, not the smallest.
settings.register_profile("mutants", settings.get_profile("quick"), phases=[Phase.explicit, Phase.generate])
settings.register_profile(
    "ci", max_examples=100, derandomize=True, deadline=None, suppress_health_check=SLOW_HERE, print_blob=True
)
settings.register_profile(
    "deep", max_examples=5000, deadline=None, suppress_health_check=SLOW_HERE, print_blob=True
)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the expected text of golden tests")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten instead of compared."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of compiled code for this run of the tests, shared by its workers; the user's is left alone."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # each worker has a folder in that of the run
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GCOMP_CACHE", str(folder / "gcomp-cache"))
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of trained models, named by GCOMP_TEST_MODELS."""
    named = os.environ.get("GCOMP_TEST_MODELS")
    if not named:
        pytest.skip("GCOMP_TEST_MODELS names no folder of trained models")
    folder = Path(named).resolve()
    if not folder.is_dir():
        pytest.skip(f"GCOMP_TEST_MODELS is {named}, which is no folder")
    return folder
