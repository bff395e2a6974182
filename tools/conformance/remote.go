// Stands in for package nsqd under nsqd's own tests of protocol and HTTP API: each test gets a broker of its own, the program
// that $CONFORMANCE_NSQD names, and what a test does to topics and channels in memory goes over HTTP. suites.py copies this
// file beside the tests, in a copy of nsqd's module; nothing of them is kept.
package nsqd

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nsqio/nsq/internal/lg"
	real "github.com/nsqio/nsq/nsqd"
	"github.com/nsqio/nsq/nsqlookupd"
)

type (
	Options = real.Options
	Message = real.Message
)

const (
	LOG_DEBUG = real.LOG_DEBUG
	LOG_FATAL = real.LOG_FATAL

	TLSRequiredExceptHTTP = real.TLSRequiredExceptHTTP
	TLSRequired           = real.TLSRequired

	frameTypeResponse int32 = 0
	frameTypeError    int32 = 1
	frameTypeMessage  int32 = 2

	ConnectTimeout = 2 * time.Second
	RequestTimeout = 5 * time.Second

	// How long a broker may take to start, and an answer to come.
	patience = 10 * time.Second
)

var (
	NewOptions = real.NewOptions
	NewMessage = real.NewMessage
)

// NSQD is a broker in a process of its own.
type NSQD struct {
	tcp, http, https *net.TCPAddr
	process          *exec.Cmd
	log              *output
	// Where its HTTP API takes everything, and with what.
	base   string
	client *http.Client
}

// output keeps what a broker logs, for a test that fails.
type output struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (o *output) Write(text []byte) (int, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.text.Write(text)
}

func freePort() *net.TCPAddr {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr)
}

// flags are the options that differ from nsqd's own, as nsqd's flags. What has no flag is an internal of nsqd.
func flags(opts *Options) []string {
	var flags []string
	given, usual := reflect.ValueOf(*opts), reflect.ValueOf(*NewOptions())
	for at := 0; at < given.NumField(); at++ {
		name, value := given.Type().Field(at).Tag.Get("flag"), given.Field(at)
		if name == "" || reflect.DeepEqual(value.Interface(), usual.Field(at).Interface()) {
			continue
		}
		switch value := value.Interface().(type) {
		case []string:
			for _, one := range value {
				flags = append(flags, "--"+name+"="+one)
			}
		case lg.LogLevel:
			flags = append(flags, "--"+name+"="+value.String())
		case int:
			text := fmt.Sprint(value)
			if name == "tls-required" {
				text = map[int]string{TLSRequired: "true", TLSRequiredExceptHTTP: "tcp-https"}[value]
			}
			flags = append(flags, "--"+name+"="+text)
		default:
			flags = append(flags, fmt.Sprintf("--%s=%v", name, value))
		}
	}
	return flags
}

func mustStartNSQD(opts *Options) (net.Addr, net.Addr, *NSQD) {
	if opts.DataPath == "" {
		dir, err := os.MkdirTemp("", "nsq-test-")
		if err != nil {
			panic(err)
		}
		opts.DataPath = dir
	}
	n := &NSQD{tcp: freePort(), http: freePort(), https: freePort(), log: &output{}}
	opts.TCPAddress, opts.HTTPAddress, opts.HTTPSAddress = n.tcp.String(), n.http.String(), n.https.String()
	given := flags(opts)
	if opts.TLSCert == "" {
		given = without(given, "--https-address")
	}
	n.base, n.client = "http://"+n.http.String(), &http.Client{Timeout: patience}
	if opts.TLSClientAuthPolicy != "" && opts.TLSRequired != TLSRequiredExceptHTTP {
		certificate, err := tls.LoadX509KeyPair("./test/certs/client.pem", "./test/certs/client.key")
		if err != nil {
			panic(err)
		}
		n.base = "https://" + n.https.String()
		n.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{
			Certificates: []tls.Certificate{certificate}, InsecureSkipVerify: true,
		}}
	}
	n.process = exec.Command(os.Getenv("CONFORMANCE_NSQD"), given...)
	n.process.Stderr = n.log
	if err := n.process.Start(); err != nil {
		panic(err)
	}
	for until := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", n.http.String())
		if err == nil {
			conn.Close()
			return n.tcp, n.http, n
		}
		if time.Now().After(until) || n.process.Process.Signal(syscall.Signal(0)) != nil {
			n.Exit()
			panic("the broker does not start with " + strings.Join(given, " ") + ":\n" + n.log.text.String())
		}
	}
}

func without(all []string, flag string) []string {
	var left []string
	for _, one := range all {
		if !strings.HasPrefix(one, flag+"=") {
			left = append(left, one)
		}
	}
	return left
}

// Exit ends the broker.
func (n *NSQD) Exit() {
	n.process.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(patience, func() { n.process.Process.Kill() })
	n.process.Wait()
	timer.Stop()
}

func (n *NSQD) RealHTTPSAddr() net.Addr { return n.https }

func (n *NSQD) call(method, path string, body []byte) (int, []byte) {
	request, err := http.NewRequest(method, n.base+path, bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	answer, err := n.client.Do(request)
	if err != nil {
		panic(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		panic(err)
	}
	return answer.StatusCode, data
}

func (n *NSQD) post(path string, body []byte) {
	if status, data := n.call("POST", path, body); status != 200 {
		panic(fmt.Sprintf("POST %s: %d %s", path, status, data))
	}
}

// started is when the broker says that it has started.
func (n *NSQD) started() time.Time {
	_, data := n.call("GET", "/info", nil)
	var info struct {
		StartTime int64 `json:"start_time"`
	}
	if err := json.Unmarshal(data, &info); err != nil {
		panic(err)
	}
	return time.Unix(info.StartTime, 0)
}

// getOpts are those of a broker's options that it tells.
func (n *NSQD) getOpts() (opts struct{ LogLevel lg.LogLevel }) {
	if _, data := n.call("GET", "/config/log_level", nil); json.Unmarshal(data, &opts.LogLevel) != nil {
		panic("GET /config/log_level: " + string(data))
	}
	return opts
}

func mustStartNSQLookupd(opts *nsqlookupd.Options) (net.Addr, net.Addr, *nsqlookupd.NSQLookupd) {
	opts.TCPAddress, opts.HTTPAddress = "127.0.0.1:0", "127.0.0.1:0"
	lookupd, err := nsqlookupd.New(opts)
	if err != nil {
		panic(err)
	}
	go lookupd.Main()
	return lookupd.RealTCPAddr(), lookupd.RealHTTPAddr(), lookupd
}

type topicStats struct {
	Name     string `json:"topic_name"`
	Depth    int64  `json:"depth"`
	Paused   bool   `json:"paused"`
	Channels []struct {
		Name     string `json:"channel_name"`
		Depth    int64  `json:"depth"`
		InFlight int    `json:"in_flight_count"`
		Deferred int    `json:"deferred_count"`
		Messages uint64 `json:"message_count"`
		Requeues uint64 `json:"requeue_count"`
		Timeouts uint64 `json:"timeout_count"`
		Paused   bool   `json:"paused"`
	} `json:"channels"`
}

func (n *NSQD) stats(topic string) (topicStats, bool) {
	_, data := n.call("GET", "/stats?format=json&topic="+topic, nil)
	var all struct {
		Topics []topicStats `json:"topics"`
	}
	if err := json.Unmarshal(data, &all); err != nil {
		panic(err)
	}
	if len(all.Topics) == 0 {
		return topicStats{}, false
	}
	return all.Topics[0], true
}

// Topic is one of the broker's topics.
type Topic struct {
	nsqd *NSQD
	name string
}

func (n *NSQD) GetTopic(name string) *Topic {
	n.post("/topic/create?topic="+name, nil)
	return &Topic{n, name}
}

func (n *NSQD) GetExistingTopic(name string) (*Topic, error) {
	if _, found := n.stats(name); !found {
		return nil, fmt.Errorf("topic does not exist")
	}
	return &Topic{n, name}, nil
}

// GenerateID is nobody's ID: the broker numbers what it is given.
func (t *Topic) GenerateID() real.MessageID { return real.MessageID{} }

func (t *Topic) PutMessage(m *Message) error {
	t.nsqd.post("/pub?topic="+t.name, m.Body)
	return nil
}

func (t *Topic) Depth() int64 {
	stats, _ := t.nsqd.stats(t.name)
	return stats.Depth
}

func (t *Topic) IsPaused() bool {
	stats, _ := t.nsqd.stats(t.name)
	return stats.Paused
}

// Channel is one of a topic's channels.
type Channel struct {
	topic *Topic
	name  string
}

func (t *Topic) GetChannel(name string) *Channel {
	t.nsqd.post("/channel/create?topic="+t.name+"&channel="+name, nil)
	return &Channel{t, name}
}

func (t *Topic) GetExistingChannel(name string) (*Channel, error) {
	stats, _ := t.nsqd.stats(t.name)
	for _, channel := range stats.Channels {
		if channel.Name == name {
			return &Channel{t, name}, nil
		}
	}
	return nil, fmt.Errorf("channel does not exist")
}

func (c *Channel) sum() (sum struct {
	depth                        int64
	inFlight, deferred           int
	messages, requeues, timeouts uint64
	paused                       bool
}) {
	stats, _ := c.topic.nsqd.stats(c.topic.name)
	for _, channel := range stats.Channels {
		if channel.Name == c.name {
			sum.depth, sum.inFlight, sum.deferred = channel.Depth, channel.InFlight, channel.Deferred
			sum.messages, sum.requeues, sum.timeouts = channel.Messages, channel.Requeues, channel.Timeouts
			sum.paused = channel.Paused
		}
	}
	return sum
}

func (c *Channel) Depth() int64   { return c.sum().depth }
func (c *Channel) IsPaused() bool { return c.sum().paused }

func decodeMessage(data []byte) (*Message, error) {
	if len(data) < 26 {
		return nil, fmt.Errorf("a message of %d bytes", len(data))
	}
	m := &Message{Timestamp: int64(binary.BigEndian.Uint64(data)), Attempts: binary.BigEndian.Uint16(data[8:]), Body: data[26:]}
	copy(m.ID[:], data[10:26])
	return m, nil
}
