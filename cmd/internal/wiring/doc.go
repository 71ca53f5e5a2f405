// Package wiring puts berth together for the commands: the one place that
// constructs isolators, provisioner, launcher and engine, and knows their order.
//
// Nothing is made before it is asked for: a command that lists images makes no
// isolators.
package wiring
