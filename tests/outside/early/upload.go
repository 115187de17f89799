// go run upload.go URL VERSION COUNT MIB: uploads as often, one after the other, and prints a status or an error for each.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
)

func main() {
	url, version := os.Args[1], os.Args[2]
	count, _ := strconv.Atoi(os.Args[3])
	mib, _ := strconv.Atoi(os.Args[4])
	body := bytes.Repeat([]byte("x"), mib<<20)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(version == "1.1")
	protocols.SetUnencryptedHTTP2(version == "2")
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	for range count {
		request, _ := http.NewRequest("POST", url, bytes.NewReader(body))
		request.Header.Set("Authorization", "Bearer sk-none")
		answer, err := client.Do(request)
		if err != nil {
			fmt.Println(err)
			continue
		}
		_, err = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(answer.StatusCode)
	}
}
