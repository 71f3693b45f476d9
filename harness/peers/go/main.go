// Go's crypto/tls.
//
//	PROGRAM lab CERTIFICATE KEY CA
//	PROGRAM client|server KIND HOST PORT FILE NUMBER...
package main

import (
	"crypto/tls"
	"crypto/x509"
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	words := os.Args[1:]
	if words[0] == "lab" {
		playLab(words[1], words[2], words[3])
	} else {
		benchmark(words[0], words[1], words[2], words[3], words[4], words[5:])
	}
}

func must(err error) {
	if err != nil {
		log.Fatal("Error: ", err)
	}
}

func serverConfig(certificateFile, keyFile string) *tls.Config {
	certificate, err := tls.LoadX509KeyPair(certificateFile, keyFile)
	must(err)
	return &tls.Config{Certificates: []tls.Certificate{certificate}}
}

func clientConfig(caFile, name string) *tls.Config {
	pem, err := os.ReadFile(caFile)
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots, ServerName: name}
}
