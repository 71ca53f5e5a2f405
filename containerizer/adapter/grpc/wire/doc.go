// Package wire translates between the vocabulary of package containerizer and the
// messages of berth.v1.
//
// A message has a field for each field of its Go type, of the same name but for case
// and underscores; [Encode] and [Decode] go by that. So a new field of a Spec needs a
// line in the .proto file and nothing here, and the test of this package fails while
// it is missing. Errors travel as status with the class in an ErrorInfo ([Status],
// [Error]).
//
// Messages print whatever they hold, credentials too: nobody logs a message.
package wire
