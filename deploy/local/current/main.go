// What a current Kubernetes API server says to the definitions and policies of this project: its own code, as Debian
// packages it, asked without a cluster (check) or run as a server of custom resources (serve).
package main

import (
	"fmt"
	"os"
)

const usage = `usage: current check CRDS POLICIES   what a server would answer to the definitions and policies in these two files
       current serve FLAGS           a server of custom resources; current serve --help tells its flags
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	var err error
	switch command, args := os.Args[1], os.Args[2:]; {
	case command == "check" && len(args) == 2:
		err = check(os.Stdout, args[0], args[1])
	case command == "serve":
		err = serve(args)
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
