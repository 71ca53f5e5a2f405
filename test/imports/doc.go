// Package imports holds the tests of the direction in which packages import each
// other: down only, isolators, provisioner and fetcher strangers to each other, and
// nothing of weight in the monitor. There is no code besides the tests.
package imports
