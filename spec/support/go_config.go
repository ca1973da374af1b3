// SPDX-License-Identifier: MIT
//
// Reads TOML and HCL with the libraries that confd and consul-template use, to validate our readers.
// Cases, one JSON object in each line: {"format", "text"}; answers: {"ok", "value" or "error"}.
package main

import (
	"bufio"
	"encoding/json"
	"os"

	"github.com/BurntSushi/toml"
	"github.com/hashicorp/hcl"
)

type testCase struct {
	Format string `json:"format"`
	Text   string `json:"text"`
}

type answer struct {
	Ok    bool        `json:"ok"`
	Value interface{} `json:"value,omitempty"`
	Error string      `json:"error,omitempty"`
}

func read(c *testCase) (v interface{}, err error) {
	if c.Format == "toml" {
		m := map[string]interface{}{}
		_, err = toml.Decode(c.Text, &m)
		return m, err
	}
	err = hcl.Decode(&v, c.Text)
	return v, err
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var c testCase
		if err := json.Unmarshal(in.Bytes(), &c); err != nil {
			panic(err)
		}
		a := answer{}
		v, err := read(&c)
		if err != nil {
			a.Error = err.Error()
		} else {
			a.Ok, a.Value = true, v
		}
		if err := out.Encode(a); err != nil {
			panic(err)
		}
	}
}
