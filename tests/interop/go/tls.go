package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// tlsPeer is one end of mTLS connections: tls-serve ADDRESS CLIENT-ID until it is killed, or tls-call ADDRESS SERVER-ID SECONDS.
func tlsPeer(ctx context.Context, args []string) {
	source, err := workloadapi.NewX509Source(ctx)
	check(err)
	defer source.Close()
	peer, err := spiffeid.FromString(args[2])
	check(err)
	if args[0] == "tls-serve" {
		serveTLS(tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(peer)), args[1])
		return
	}
	seconds, err := strconv.ParseFloat(args[3], 64)
	check(err)
	callTLS(tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(peer)), args[1], seconds)
}

func serveTLS(config *tls.Config, address string) {
	listener, err := tls.Listen("tcp", address, config)
	check(err)
	fmt.Println(listener.Addr())
	for {
		connection, err := listener.Accept()
		check(err)
		go func(connection net.Conn) {
			defer connection.Close()
			ping := make([]byte, 4)
			if _, err := io.ReadFull(connection, ping); err == nil {
				_, _ = connection.Write([]byte("pong"))
			}
		}(connection)
	}
}

func callTLS(config *tls.Config, address string, seconds float64) {
	served, certificates, failures := 0, map[string]bool{}, []string{}
	until := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	for time.Now().Before(until) {
		serial, err := once(config, address)
		if err == nil {
			served++
			certificates[serial] = true
		} else {
			failures = append(failures, err.Error())
		}
		time.Sleep(20 * time.Millisecond)
	}
	report := map[string]any{"served": served, "certificates": len(certificates), "failures": failures}
	check(json.NewEncoder(os.Stdout).Encode(report))
}

func once(config *tls.Config, address string) (string, error) {
	connection, err := tls.Dial("tcp", address, config)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if _, err := connection.Write([]byte("ping")); err != nil {
		return "", err
	}
	pong := make([]byte, 4)
	if _, err := io.ReadFull(connection, pong); err != nil {
		return "", err
	}
	return connection.ConnectionState().PeerCertificates[0].SerialNumber.Text(16), nil
}
