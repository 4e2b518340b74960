// Renders templates of Ollama's kind with Go's own text/template: reads {"templates": {name: text}, "chats": [[{"role",
// "content"}, ...], ...], "dates": ["2031-11-26", ...]} and prints {name: [[text of each chat] by date]}. Called by
// make_go_templates.mjs.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type Input struct {
	Templates map[string]string `json:"templates"`
	Chats     [][]Message       `json:"chats"`
	Dates     []string          `json:"dates"`
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	var input Input
	check(json.NewDecoder(os.Stdin).Decode(&input))
	today := ""
	functions := template.FuncMap{"currentDate": func(...string) string { return today }}
	out := map[string][][]string{}
	for name, text := range input.Templates {
		parsed, err := template.New(name).Funcs(functions).Parse(text)
		check(err)
		for _, today = range input.Dates {
			var texts []string
			for _, chat := range input.Chats {
				system := ""
				for _, message := range chat {
					if message.Role == "system" {
						system = message.Content
					}
				}
				var rendered strings.Builder
				check(parsed.Execute(&rendered, map[string]any{"Messages": chat, "System": system}))
				texts = append(texts, rendered.String())
			}
			out[name] = append(out[name], texts)
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	check(encoder.Encode(out))
}
