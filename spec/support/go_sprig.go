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
var errChanged = errors.New("a map that is merged has changed")

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

// Whether a map contains itself, at any depth. around: the maps that v is in.
func loops(v interface{}, around []uintptr) bool {
	switch v := v.(type) {
	case map[string]interface{}:
		at := reflect.ValueOf(v).Pointer()
		for _, other := range around {
			if other == at {
				return true
			}
		}
		around = append(around, at)
		for _, item := range v {
			if loops(item, around) {
				return true
			}
		}
	case []interface{}:
		for _, item := range v {
			if loops(item, around) {
				return true
			}
		}
	}
	return false
}

type merging = func(map[string]interface{}, ...map[string]interface{}) (interface{}, error)

func copied(v interface{}) interface{} {
	switch v := v.(type) {
	case map[string]interface{}:
		out := map[string]interface{}{}
		for key, item := range v {
			out[key] = copied(item)
		}
		return out
	case []interface{}:
		out := make([]interface{}, len(v))
		for i, item := range v {
			out[i] = copied(item)
		}
		return out
	}
	return v
}

// The members of merged maps are the same maps in Go, so that merging may put a map into itself, or
// change the maps that are merged.
func checked(merge merging) merging {
	return func(into map[string]interface{}, from ...map[string]interface{}) (interface{}, error) {
		var before []interface{}
		for _, m := range from {
			before = append(before, copied(m))
		}
		result, err := merge(into, from...)
		if err != nil {
			return result, err
		}
		if loops(result, nil) {
			return nil, errLoop
		}
		for i, m := range from {
			if loops(m, nil) || !reflect.DeepEqual(before[i], copied(m)) {
				return nil, errChanged
			}
		}
		return result, nil
	}
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
	for _, name := range []string{"merge", "mergeOverwrite"} {
		merge := functions[name].(func(map[string]interface{}, ...map[string]interface{}) interface{})
		functions[name] = checked(func(into map[string]interface{}, from ...map[string]interface{}) (interface{}, error) {
			return merge(into, from...), nil
		})
	}
	for _, name := range []string{"mustMerge", "mustMergeOverwrite"} {
		functions[name] = checked(functions[name].(merging))
	}
}
