// Package uritest is the conformance suite of uri.Scheme.
package uritest
