// Package trust decides by a signature policy whether an image may be used.
//
// The policy is a file in the format of containers-policy.json(5): the most
// specific scope that matches an image's name holds a list of requirements, all of
// which must be met. Signatures are cosign's: manifests whose layers are
// simple-signing payloads with the signature as an annotation, under the tag
// "sha256-HEX.sig" of the image's repository or referring to the image; and sigstore
// bundles that refer to it (bundle.go, decisions/0001). What is signed is the digest
// that a name stands for or that of the platform's manifest, whichever; the one holds
// the other.
//
// The key of a signature is the policy's, or that of a certificate by the policy's
// authority for the signer that it names (authority.go). A transparency log's
// signed timestamp (rekor.go) says that the signature was made public, and when: the
// time that a certificate is judged at. All of that is beside the signature; no
// authority or log is asked. The rules are those of containers/image, which also
// leaves out the certificate's own log (SCT).
//
// Everything that a registry sends is hostile until a key has verified it: sizes
// and numbers are bounded, documents are read strictly (an unknown or repeated key
// is an error), and nothing of a payload is looked at before its signature is
// verified. Main invariant: what is not understood refuses. A requirement that
// berth cannot check, such as GPG's signedBy (decisions/0002), is an error for the
// images that it applies to, never ignored.
//
// The cryptography is the standard library's: the field's libraries for this bring
// clients of transparency logs, TUF and protobuf along. The package reads the
// policy and the keys that it names, and nothing else; how signatures are fetched
// is the caller's.
package trust
