# SPDX-License-Identifier: MIT
# schema.py SCHEMA FILE: the same as schema.c, by python3-jsonschema. Prints "name value".
import json
import sys
import time

import jsonschema

schema, data = (json.load(open(path)) for path in sys.argv[1:3])
validator = jsonschema.Draft202012Validator(schema)
best = 1e9
for _ in range(3):
    began = time.perf_counter()
    assert validator.is_valid(data)
    best = min(best, (time.perf_counter() - began) * 1000)
print(f"jsonschema {best:.4f}")
