// Go's crypto/tls, as a program that speaks the protocol of docs/benchmarks.md.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const defaultRead = 32 * 1024 // of io.Copy

var one = []byte("!")

type lap struct{ seconds, cpu float64 }

type stopwatch struct {
	wall time.Time
	cpu  float64
}

// cpuSeconds are those of the process: getrusage is too coarse for one lap.
func cpuSeconds() float64 {
	const clockProcessCPUTime = 2
	var spent syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockProcessCPUTime,
		uintptr(unsafe.Pointer(&spent)), 0)
	return float64(spent.Nano()) / 1e9
}

func start() stopwatch { return stopwatch{cpu: cpuSeconds(), wall: time.Now()} }

func (watch stopwatch) lap() lap {
	seconds := time.Since(watch.wall).Seconds()
	return lap{seconds, cpuSeconds() - watch.cpu}
}

func must(err error) {
	if err != nil {
		log.Fatal("Error: ", err)
	}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	must(err)
	return value
}

// The client's workloads:

type job struct {
	address             string
	config              *tls.Config
	repeat, size, piece int
}

func (j job) connect() *tls.Conn {
	conn, err := tls.Dial("tcp", j.address, j.config)
	must(err)
	return conn
}

func (j job) exchange(conn *tls.Conn) {
	message := make([]byte, j.size)
	_, err := conn.Write(message)
	must(err)
	_, err = io.ReadFull(conn, message)
	must(err)
}

func readToEnd(conn *tls.Conn) int {
	count, err := io.Copy(io.Discard, conn)
	must(err)
	return int(count)
}

func shutDown(conn *tls.Conn) {
	must(conn.CloseWrite())
	readToEnd(conn)
	// Its own close_notify has left already, and the far end may have gone.
	conn.Close()
}

func receive(j job) lap {
	size := j.piece
	if size == 0 {
		size = defaultRead
	}
	buffer := make([]byte, size)
	conn := j.connect()
	defer conn.Close()
	_, err := io.ReadFull(conn, buffer[:1])
	must(err)
	watch := start()
	_, err = conn.Write(one)
	must(err)
	for left := j.size; left > 0; {
		count, err := conn.Read(buffer)
		must(err)
		left -= count
	}
	return watch.lap()
}

func send(j job) lap {
	data := make([]byte, j.piece)
	answer := make([]byte, 1)
	conn := j.connect()
	defer conn.Close()
	_, err := io.ReadFull(conn, answer)
	must(err)
	watch := start()
	for range j.size / j.piece {
		_, err = conn.Write(data)
		must(err)
	}
	_, err = io.ReadFull(conn, answer)
	must(err)
	return watch.lap()
}

func ending(end func(*tls.Conn)) func(job) lap {
	return func(j job) lap {
		conn := j.connect()
		j.exchange(conn)
		time.Sleep(time.Millisecond)
		watch := start()
		end(conn)
		return watch.lap()
	}
}

func connection(j job) lap {
	watch := start()
	conn := j.connect()
	j.exchange(conn)
	conn.Close()
	return watch.lap()
}

func halfClose(j job) lap {
	request := make([]byte, j.size)
	conn := j.connect()
	defer conn.Close()
	time.Sleep(time.Millisecond)
	watch := start()
	_, err := conn.Write(request)
	must(err)
	must(conn.CloseWrite())
	if count := readToEnd(conn); count != j.size {
		must(fmt.Errorf("%d bytes came", count))
	}
	return watch.lap()
}

func pingPong(j job) []lap {
	var laps []lap
	conn := j.connect()
	defer conn.Close()
	message := make([]byte, j.size)
	for range j.repeat {
		watch := start()
		_, err := conn.Write(message)
		must(err)
		_, err = conn.Read(message)
		must(err)
		laps = append(laps, watch.lap())
	}
	return laps
}

func client(kind string, j job) []lap {
	if kind == "ping-pong" {
		return pingPong(j)
	}
	once := map[string]func(job) lap{
		"receive":    receive,
		"send":       send,
		"shutdown":   ending(shutDown),
		"close":      ending(func(conn *tls.Conn) { conn.Close() }),
		"connect":    connection,
		"half-close": halfClose,
	}[kind]
	if once == nil {
		fmt.Printf("{\"cannot\": \"no workload %s\"}\n", kind)
		return nil
	}
	var laps []lap
	for range j.repeat {
		laps = append(laps, once(j))
	}
	return laps
}

// The server:

func hold(host string, config *tls.Config) lap {
	listener, err := tls.Listen("tcp", net.JoinHostPort(host, "0"), config)
	must(err)
	fmt.Printf("{\"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)

	var guard sync.Mutex
	var conns []*tls.Conn
	var open sync.WaitGroup
	go func() {
		for {
			accepted, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			must(err)
			conn := accepted.(*tls.Conn)
			guard.Lock()
			conns = append(conns, conn)
			guard.Unlock()
			open.Add(1)
			go func() {
				defer open.Done()
				defer conn.Close()
				buffer := make([]byte, 1)
				for {
					if _, err := conn.Read(buffer); err != nil {
						return
					}
					if _, err := conn.Write(buffer); err != nil {
						return
					}
				}
			}()
		}
	}()

	bufio.NewReader(os.Stdin).ReadString('\n')
	watch := start()
	listener.Close()
	guard.Lock()
	for _, conn := range conns {
		must(conn.CloseWrite())
	}
	guard.Unlock()
	open.Wait()
	return watch.lap()
}

func main() {
	log.SetFlags(0)
	fmt.Printf("{\"version\": \"%s crypto/tls\"}\n", runtime.Version())
	role, kind, host, port, file := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	var laps []lap
	if role == "server" {
		certificate, err := tls.LoadX509KeyPair(file, file)
		must(err)
		config.Certificates = []tls.Certificate{certificate}
		laps = []lap{hold(host, config)}
	} else {
		pem, err := os.ReadFile(file)
		must(err)
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(pem)
		config.ServerName = host
		laps = client(kind, job{
			address: net.JoinHostPort(host, port),
			config:  config,
			repeat:  number(os.Args[6]),
			size:    number(os.Args[7]),
			piece:   number(os.Args[8]),
		})
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, lap := range laps {
		fmt.Fprintf(out, "{\"seconds\": %.9f, \"cpu\": %.9f}\n", lap.seconds, lap.cpu)
	}
}
