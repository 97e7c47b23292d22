import os

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Starts and data are made in a folder of this session, never in the user's cache."""
    before = os.environ.get("PILOTAGE_CACHE")
    os.environ["PILOTAGE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["PILOTAGE_CACHE"]
    else:
        os.environ["PILOTAGE_CACHE"] = before


@pytest.fixture(autouse=True)
def same_numbers():
    """One thread and one seed, whatever ran before."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
