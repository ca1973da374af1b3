// SPDX-License-Identifier: MIT
//
// Renders the cases of `segue render --batch` with Go's text/template, to validate ours. Integers of the
// data are ints, other numbers float64, as in a merged configuration.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"text/template"
)

// Of sprig, where go_sprig.go is compiled too.
var functions template.FuncMap

type testCase struct {
	Id         interface{} `json:"id"`
	Name       string      `json:"name"`
	Template   string      `json:"template"`
	Data       interface{} `json:"data"`
	MissingKey string      `json:"missingkey"`
	Left       string      `json:"left"`
	Right      string      `json:"right"`
}

// A template that calls itself would take all memory of the machine.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > 64<<20 {
		return 0, errors.New("the output is too large")
	}
	return b.Buffer.Write(p)
}

type answer struct {
	Id     interface{} `json:"id"`
	Ok     bool        `json:"ok"`
	Output string      `json:"output,omitempty"`
	Error  string      `json:"error,omitempty"`
}

func convert(v interface{}) interface{} {
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			if i, err := strconv.Atoi(v.String()); err == nil {
				return i
			}
			if u, err := strconv.ParseUint(v.String(), 10, 64); err == nil {
				return u
			}
		}
		f, _ := v.Float64()
		return f
	case []interface{}:
		for i := range v {
			v[i] = convert(v[i])
		}
	case map[string]interface{}:
		for k := range v {
			v[k] = convert(v[k])
		}
	}
	return v
}

func render(c *testCase) (string, error) {
	t := template.New(c.Name).Delims(c.Left, c.Right).Funcs(functions)
	if c.MissingKey != "" {
		t.Option("missingkey=" + c.MissingKey)
	}
	if _, err := t.Parse(c.Template); err != nil {
		return "", err
	}
	var out bounded
	err := t.Execute(&out, convert(c.Data))
	return out.String(), err
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 1 {
			decoder := json.NewDecoder(bytes.NewReader(line))
			decoder.UseNumber()
			var c testCase
			if e := decoder.Decode(&c); e != nil {
				panic(e)
			}
			output, e := render(&c)
			a := answer{Id: c.Id, Ok: e == nil}
			if e != nil {
				a.Error = e.Error()
			} else {
				a.Output = output
			}
			encoder.Encode(a)
		}
		if err != nil {
			return
		}
	}
}
