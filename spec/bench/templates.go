// SPDX-License-Identifier: MIT
//
// Times of Go's text/template for spec/bench/templates.lua: the best of several rounds, in ms.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"text/template"
	"time"
)

func services(n int) []interface{} {
	var list []interface{}
	for i := 0; i < n; i++ {
		list = append(list, map[string]interface{}{
			"Name": "web", "ID": fmt.Sprintf("web-%d", i), "Port": 8000 + i%1000, "Up": i%3 != 0,
			"Address": fmt.Sprintf("10.0.%d.%d", i/256, i%256),
			"Tags":    []interface{}{"a", "b"}, "Meta": map[string]interface{}{"w": "1"},
		})
	}
	return list
}

func best(rounds int, run func()) float64 {
	least := time.Hour
	for i := 0; i < rounds; i++ {
		start := time.Now()
		run()
		if took := time.Since(start); took < least {
			least = took
		}
	}
	return least.Seconds() * 1000
}

// The arguments are the texts: 4 fields, 10 actions, small.
func main() {
	data := map[string]interface{}{"s": services(10000)}
	for i, name := range []string{"fields", "actions"} {
		t := template.Must(template.New("t").Parse(os.Args[i+1]))
		var out bytes.Buffer
		fmt.Println(name, best(15, func() {
			out.Reset()
			if err := t.Execute(&out, data); err != nil {
				panic(err)
			}
		}), out.Len())
	}
	two := map[string]interface{}{"s": services(2)}
	fmt.Println("small", best(5, func() {
		for i := 0; i < 1000; i++ {
			t := template.Must(template.New("t").Parse(fmt.Sprintf("# %d\n%s", i, os.Args[3])))
			if err := t.Execute(io.Discard, two); err != nil {
				panic(err)
			}
		}
	}), 1000)
}
