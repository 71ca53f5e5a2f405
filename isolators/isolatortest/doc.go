// Package isolatortest is the conformance suite of [containerizer.Isolator]. An
// isolator's own test describes it in a [Config] and calls [Run]; what is special
// to it is tested beside it. [Ledger] and [NewContainer] serve those tests too.
//
// The suite checks the promises that the engine builds on: Cleanup is idempotent,
// works from the id and the ledger alone, undoes a Prepare that failed or was cut
// off at any acquisition, is a no-op for strangers and leaves nothing; Prepare
// works again after it; containers do not disturb one another, also in parallel.
package isolatortest
