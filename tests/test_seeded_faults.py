"The list of seeded faults must follow the code; tests/seeded_faults.py itself takes some minutes and is run by hand."

import ast

import pytest
from seeded_faults import FAULTS, with_fault


@pytest.mark.parametrize("module, old, new, wrong", FAULTS)
def test_a_seeded_fault_still_applies(module, old, new, wrong):
    ast.parse(with_fault(module, old, new))
