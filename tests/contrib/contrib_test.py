"""Operators of domain com.microsoft: what they give beside ONNX Runtime.

usage: contrib_test.py [SUBSTRING]
"""

import sys

import attention_cases
import experts_cases
import harness
import misc_cases
import old_cases
import quantized_cases
import recent_cases

if __name__ == "__main__":
    cases = quantized_cases.cases() + attention_cases.cases() + misc_cases.cases() + experts_cases.cases() + recent_cases.cases() + old_cases.cases()
    sys.exit(0 if harness.run(cases, sys.argv[1] if len(sys.argv) > 1 else "") else 1)
