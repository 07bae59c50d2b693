"""What every test may ask for: the embedded example, and the shared raw data where they are present."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def example() -> Path:
    """The embedded example: real OpenMX outputs of graphene bilayers."""
    return REPOSITORY / "examples" / "bilayer_graphene"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Raw outputs of many DFT codes, which lie beside the repository on some machines only."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not on this machine")
    return folder
