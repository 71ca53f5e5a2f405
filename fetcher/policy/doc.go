// Package policy says which registries images may come from, and what names without
// a registry mean. It has no dependency on a registry client: a program that
// launches containers knows by it what the names of its images are.
package policy
