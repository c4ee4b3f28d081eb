// A server of custom resources.
package main

func serve(args []string) error { return nil }
