// Package chrometest drives a headless Chromium in tests, by its own protocol over
// a pipe. Only tests import it.
package chrometest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

// Page is a page in a browser of its own, which ends with the test.
//
// mu guards what follows it.
type Page struct {
	t       testing.TB
	in      *os.File
	session string

	mu       sync.Mutex
	next     int
	waiting  map[int]chan json.RawMessage
	troubles []string // what the console said, and what failed
}

type message struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    any             `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
}

// New starts a browser. The test is skipped if there is none.
func New(t testing.TB) *Page {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		testkit.Missing(t, "chromium")
	}
	fromBrowser, toUs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromUs, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{fromUs, toUs}
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fromUs.Close()
	toUs.Close()
	p := &Page{t: t, in: in, waiting: map[int]chan json.RawMessage{}}
	ended := make(chan struct{})
	go func() { defer close(ended); p.read(fromBrowser) }()
	t.Cleanup(func() {
		p.send("Browser.close", nil)
		killed := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // it was told to end
		killed.Stop()
		in.Close()
		<-ended
		fromBrowser.Close()
	})
	var target struct{ TargetID string }
	p.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	p.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	p.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		p.call(domain+".enable", map[string]any{}, nil)
	}
	return p
}

func (p *Page) read(r *os.File) {
	in := bufio.NewReader(r)
	for {
		raw, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		raw = bytes.TrimSuffix(raw, []byte{0})
		var m message
		if json.Unmarshal(raw, &m) != nil {
			continue
		}
		p.mu.Lock()
		switch m.Method {
		case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded":
			p.troubles = append(p.troubles, string(raw))
		}
		if c := p.waiting[m.ID]; c != nil {
			delete(p.waiting, m.ID)
			if m.Error != nil {
				m.Result = nil
			}
			c <- m.Result
		}
		p.mu.Unlock()
	}
}

func (p *Page) send(method string, params any) chan json.RawMessage {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	c := make(chan json.RawMessage, 1)
	p.waiting[p.next] = c
	raw, _ := json.Marshal(message{ID: p.next, SessionID: p.session, Method: method, Params: params})
	_, _ = p.in.Write(append(raw, 0)) // a browser that is gone does not answer
	return c
}

func (p *Page) call(method string, params, result any) {
	p.t.Helper()
	select {
	case raw := <-p.send(method, params):
		if raw == nil {
			p.t.Fatalf("%s is refused: %v", method, params)
		}
		if result != nil {
			if err := json.Unmarshal(raw, result); err != nil {
				p.t.Fatal(err)
			}
		}
	case <-time.After(2 * time.Minute):
		p.t.Fatalf("%s is not answered", method)
	}
}

// Size sets how large the page is shown, and whether dark.
func (p *Page) Size(width, height int, dark bool) {
	p.t.Helper()
	p.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
	scheme := map[bool]string{true: "dark", false: "light"}[dark]
	p.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]string{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// Script turns JavaScript on or off for what is opened next.
func (p *Page) Script(on bool) {
	p.t.Helper()
	p.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": !on}, nil)
}

// Open goes to an address and waits until it is loaded.
func (p *Page) Open(address string) {
	p.t.Helper()
	var at struct{ ErrorText string }
	p.call("Page.navigate", map[string]any{"url": address}, &at)
	if at.ErrorText != "" {
		p.t.Fatalf("%s: %s", address, at.ErrorText)
	}
	testkit.Eventually(p.t, "the page is loaded", time.Minute, func() bool {
		return p.Eval("document.readyState + location.protocol") != `"completeabout:"` && strings.HasPrefix(p.Eval("document.readyState"), `"complete`)
	})
}

// Eval is the value of an expression, as JSON.
func (p *Page) Eval(expression string) string {
	p.t.Helper()
	var got struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	p.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &got)
	if got.ExceptionDetails != nil {
		return fmt.Sprintf("error: %s", got.ExceptionDetails)
	}
	return string(got.Result.Value)
}

// Screenshot is the whole page as a PNG.
func (p *Page) Screenshot(whole bool) []byte {
	p.t.Helper()
	var shot struct{ Data string }
	p.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": whole}, &shot)
	raw, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	return raw
}

// Node is what somebody is told who does not see the page.
type Node struct{ Role, Name string }

// Accessible are the nodes of the browser's tree for screen readers, those without a
// meaning left out.
func (p *Page) Accessible() (list []Node) {
	p.t.Helper()
	type value struct{ Value any }
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name value
		}
	}
	p.call("Accessibility.getFullAXTree", map[string]any{}, &tree)
	for _, n := range tree.Nodes {
		if role, _ := n.Role.Value.(string); !n.Ignored {
			name, _ := n.Name.Value.(string)
			list = append(list, Node{role, name})
		}
	}
	return list
}

// Key presses a key and lets it go.
func (p *Page) Key(name string) {
	p.t.Helper()
	p.call("Emulation.setFocusEmulationEnabled", map[string]any{"enabled": true}, nil)
	key := map[string]any{"key": name, "code": name, "windowsVirtualKeyCode": map[string]int{"Tab": 9, "Enter": 13}[name]}
	if name == "Enter" {
		key["text"] = "\r"
	}
	for _, kind := range []string{"keyDown", "keyUp"} {
		key["type"] = kind
		p.call("Input.dispatchKeyEvent", key, nil)
	}
}

// Troubles is what the console has said, errors and warnings of the browser among it.
func (p *Page) Troubles() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.troubles...)
}
