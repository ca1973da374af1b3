// SPDX-License-Identifier: MIT
//
// Adds sprig's functions to go_template.go.
package main

import "github.com/Masterminds/sprig"

func init() {
	functions = sprig.TxtFuncMap()
}
