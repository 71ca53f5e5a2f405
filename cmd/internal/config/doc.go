// Package config reads the configuration file of berth, in TOML.
//
// The file is optional, and so is every key in it. A key that does not exist, or a
// value of the wrong type, is an error with the line. Flags and environment
// variables override the file; what they are is the caller's business.
package config
