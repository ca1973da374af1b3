// SPDX-License-Identifier: MIT
//
// Adds sprig's functions to go_template.go.
package main

import (
	"errors"
	"reflect"

	"github.com/Masterminds/sprig"
)

var errLoop = errors.New("the map would contain itself")

// Whether a value is the map, or contains it.
func contains(v interface{}, m map[string]interface{}) bool {
	switch v := v.(type) {
	case map[string]interface{}:
		if reflect.ValueOf(v).Pointer() == reflect.ValueOf(m).Pointer() {
			return true
		}
		for _, item := range v {
			if contains(item, m) {
				return true
			}
		}
	case []interface{}:
		for _, item := range v {
			if contains(item, m) {
				return true
			}
		}
	}
	return false
}

func init() {
	functions = sprig.TxtFuncMap()
	// A map that contains itself would end the program where it is printed: the stack of Go overflows.
	functions["set"] = func(m map[string]interface{}, key string, v interface{}) (map[string]interface{}, error) {
		if m != nil && contains(v, m) {
			return nil, errLoop
		}
		m[key] = v
		return m, nil
	}
}
