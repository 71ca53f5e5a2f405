// Package specflag turns the flags of `berth run` and `berth create`, which are
// Docker's, into a containerizer.Spec.
//
// It knows the flags' syntax and what they mean together; it starts nothing and
// looks at the node only through [Host]. What a flag's value says wrongly comes
// back as one sentence that names the flag and wraps containerizer.ErrInvalid.
//
// Main invariant: a flag that is registered here changes the Spec or is refused;
// none is read and forgotten. Flags of Docker that berth has no use for are not
// registered; [Refusal] says why.
package specflag
