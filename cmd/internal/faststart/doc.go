// Package faststart makes the process that links it cheaper to start, where it ends
// soon: `berth run` and `berth exec` touch most of their memory once, and the first
// touch of a page is what most of their time goes to on machines whose page faults
// are dear (virtual machines with shadow paging: 10 to 40 us each).
//
// A program imports it for what its initialization does, which has to come before
// that of everything else that allocates:
//
//   - The part of the heap in use becomes a huge page at once, and what follows in
//     the Go runtime's first chunk, or the next where little is left of it, one when it
//     is touched: two page faults for the 200 to 350 of a launch.
//   - The pages of code and constants are mapped at once, instead of 16 by each of
//     some 130 faults. They are in the page cache as a rule.
//   - One P is left. Giving up the others later would flush their caches of spans
//     to lists that nobody had touched before, 80 to 130 page faults.
//
// A kernel that cannot do one of these just does not. It costs up to 4 MiB of memory
// for as long as the process lives, so it is nothing for berth-monitor and berthd. Figures are in decisions/0003 of cmd/berth.
package faststart
