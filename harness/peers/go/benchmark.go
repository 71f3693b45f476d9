// The program for the benchmarks: docs/benchmarks.md has its protocol.
package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
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

type sample struct{ seconds, cpu float64 }

type stopwatch struct {
	wall time.Time
	cpu  float64
}

// cpuSeconds are those of the process: getrusage is too coarse for one sample.
func cpuSeconds() float64 {
	const clockProcessCPUTime = 2
	var spent syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockProcessCPUTime,
		uintptr(unsafe.Pointer(&spent)), 0)
	return float64(spent.Nano()) / 1e9
}

func start() stopwatch { return stopwatch{cpu: cpuSeconds(), wall: time.Now()} }

func (watch stopwatch) sample() sample {
	seconds := time.Since(watch.wall).Seconds()
	return sample{seconds, cpuSeconds() - watch.cpu}
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
	// Its close_notify has left already, and the other end may have gone.
	conn.Close()
}

func receive(j job) sample {
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
	return watch.sample()
}

func send(j job) sample {
	data := make([]byte, j.piece)
	answer := make([]byte, 1)
	conn := j.connect()
	defer conn.Close()
	_, err := io.ReadFull(conn, answer)
	must(err)
	watch := start()
	for left := j.size; left > 0; left -= j.piece {
		_, err = conn.Write(data)
		must(err)
	}
	_, err = io.ReadFull(conn, answer)
	must(err)
	return watch.sample()
}

func ending(end func(*tls.Conn)) func(job) sample {
	return func(j job) sample {
		conn := j.connect()
		j.exchange(conn)
		time.Sleep(time.Millisecond)
		watch := start()
		end(conn)
		return watch.sample()
	}
}

func connection(j job) sample {
	watch := start()
	conn := j.connect()
	j.exchange(conn)
	conn.Close()
	return watch.sample()
}

func halfClose(j job) sample {
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
	return watch.sample()
}

func pingPong(j job) []sample {
	var samples []sample
	conn := j.connect()
	defer conn.Close()
	message := make([]byte, j.size)
	for i := 0; i < j.repeat; i++ {
		watch := start()
		_, err := conn.Write(message)
		must(err)
		_, err = conn.Read(message)
		must(err)
		samples = append(samples, watch.sample())
	}
	return samples
}

func client(kind string, j job) []sample {
	if kind == "ping-pong" {
		return pingPong(j)
	}
	if kind == "connect-resumed" {
		j.config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		connection(j)
		kind = "connect"
	}
	once := map[string]func(job) sample{
		"receive":    receive,
		"send":       send,
		"shutdown":   ending(shutDown),
		"close":      ending(func(conn *tls.Conn) { conn.Close() }),
		"abort":      ending(func(conn *tls.Conn) { conn.NetConn().Close() }),
		"connect":    connection,
		"half-close": halfClose,
	}[kind]
	if once == nil {
		fmt.Printf("{\"cannot\": \"no workload %s\"}\n", kind)
		return nil
	}
	var samples []sample
	for i := 0; i < j.repeat; i++ {
		samples = append(samples, once(j))
	}
	return samples
}

// The server:

func serve(host string, config *tls.Config) sample {
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
				buffer := make([]byte, 4096)
				for {
					count, err := conn.Read(buffer)
					if err != nil {
						return
					}
					if _, err := conn.Write(buffer[:count]); err != nil {
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
		conn.CloseWrite() // fails where the client has ended the connection
	}
	guard.Unlock()
	open.Wait()
	return watch.sample()
}

func benchmark(role, kind, host, port, file string, numbers []string) {
	fmt.Printf("{\"version\": \"%s crypto/tls\"}\n", runtime.Version())
	var samples []sample
	if role == "server" {
		config := serverConfig(file, file)
		config.MinVersion = tls.VersionTLS13
		samples = []sample{serve(host, config)}
	} else {
		config := clientConfig(file, host)
		config.MinVersion = tls.VersionTLS13
		samples = client(kind, job{
			address: net.JoinHostPort(host, port),
			config:  config,
			repeat:  number(numbers[0]),
			size:    number(numbers[1]),
			piece:   number(numbers[2]),
		})
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, s := range samples {
		fmt.Fprintf(out, "{\"seconds\": %.9f, \"cpu\": %.9f}\n", s.seconds, s.cpu)
	}
}
