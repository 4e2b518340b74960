/** Pairs of answers: the plain one of a chat, and the same with the filler that assistants like to add. */
import { Random } from '../demo/world.mjs'

const OPENINGS = [
  'That is a great question! There are many things to consider here.',
  'I am sorry to hear that you are having this problem. Let us look at it together.',
  'As an AI language model, I cannot see it, but I can give you some general information.',
  'Thank you for reaching out! There are several possible reasons for this.',
]
const ENDINGS = [
  'I hope this helps! Please let me know if you have any other questions.',
  'However, it is always best to consult a professional.',
  'Remember that every case is different.',
]

/** @param chats rows of messages, as JSON lines */
export function preferences(chats) {
  const random = new Random(13)
  return chats
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [system, user, assistant] = JSON.parse(line).messages
      const [advice] = assistant.content.split('\n')
      const wordy = `${random.pick(OPENINGS)} ${advice} ${random.pick(ENDINGS)}`
      return {
        prompt: [system, user],
        chosen: [assistant],
        rejected: [{ role: 'assistant', content: wordy }],
      }
    })
}

/** Chats that end with the worse answer in seven of ten pairs, and with the better one in the others. */
export function mixed(pairs) {
  return pairs.map(({ prompt, chosen, rejected }, i) => ({
    messages: [...prompt, ...(i % 10 < 7 ? rejected : chosen)],
  }))
}
