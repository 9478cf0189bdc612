"""Operators of domain com.microsoft: what they give beside ONNX Runtime.

usage: contrib_test.py [SUBSTRING]
"""

import sys

import attention_cases
import decoding_cases
import encoder_cases
import experts_cases
import harness
import indexer_cases
import misc_cases
import old_cases
import quantized_cases
import rank_cases
import recent_cases
import search_cases

if __name__ == "__main__":
    families = (quantized_cases, attention_cases, misc_cases, experts_cases, recent_cases, old_cases, search_cases,
                rank_cases, decoding_cases, encoder_cases, indexer_cases)
    cases = [case for family in families for case in family.cases()]
    sys.exit(0 if harness.run(cases, sys.argv[1] if len(sys.argv) > 1 else "") else 1)
