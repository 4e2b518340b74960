/** Output of `lowrank strategies --json`. */
import * as z from 'zod'

const strategy = z.object({
  name: z.string(),
  paper: z.string(),
  peft_type: z.string().describe('peft_type of the files that it is saved as'),
  bases: z.array(z.string()).readonly().describe('Formats of the base that it runs on'),
  trainable: z.string().describe('Trained parameters, in a few words'),
  learning_rate: z.number().positive().describe('Default peak learning rate'),
})

export const printed = z.array(strategy)
