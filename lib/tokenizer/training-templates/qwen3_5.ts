/**
 * Qwen3.5 and 3.6: ChatML with tools as JSON, calls as XML, and reasoning in `<think>`. The model's own template renders
 * the reasoning of the turns after the last question only; here every turn of the assistant has its block, empty where
 * there is none. The prompt opens the block, so answers are marked behind `<think>`.
 */
export const QWEN3_5 = String.raw`
{%- macro text_of(content) %}
    {%- if content is string %}
        {{- content }}
    {%- else %}
        {%- for part in content or [] %}
            {{- part.text }}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- set system = text_of(messages[0].content) | trim if messages[0].role == 'system' else '' %}
{%- if tools %}
    {{- '<|im_start|>system\n# Tools\n\nYou have access to the following functions:\n\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' + (tool | tojson) }}
    {%- endfor %}
    {{- '\n</tools>\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n' }}
    {{- '<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n' }}
    {{- '<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple lines\n' }}
    {{- '</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n' }}
    {{- '- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested ' }}
    {{- 'within <tool_call></tool_call> XML tags\n- Required parameters MUST be specified\n' }}
    {{- '- You may provide optional reasoning for your function call in natural language BEFORE the function call, ' }}
    {{- 'but NOT after\n- If there is no function call available, answer the question like normal with your current ' }}
    {{- 'knowledge and do not tell the user about function calls\n</IMPORTANT>' }}
    {{- '\n\n' + system if system }}
    {{- '<|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + system + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- set content = text_of(message.content) | trim %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\n<think>\n' }}
        {%- generation %}
            {{- (message.reasoning_content or '') | trim + '\n</think>\n\n' + content }}
            {%- for call in message.tool_calls or [] %}
                {{- '\n' if not loop.first else '\n\n' if content }}
                {{- '<tool_call>\n<function=' + call.function.name + '>\n' }}
                {%- for key, value in call.function.arguments | items %}
                    {%- set nested = value is mapping or (value is sequence and value is not string) %}
                    {{- '<parameter=' + key + '>\n' + (value | tojson if nested else value | string) + '\n</parameter>\n' }}
                {%- endfor %}
                {{- '</function>\n</tool_call>' }}
            {%- endfor %}
            {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user' if loop.first or messages[loop.index0 - 1].role != 'tool' }}
        {{- '\n<tool_response>\n' + content + '\n</tool_response>' }}
        {{- '<|im_end|>\n' if loop.last or messages[loop.index0 + 1].role != 'tool' }}
    {%- elif message.role == 'user' %}
        {{- '<|im_start|>user\n' + content + '<|im_end|>\n' }}
    {%- elif message.role != 'system' or not loop.first %}
        {{- raise_exception('a message of the role ' + message.role + ' cannot stand here') }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n<think>\n' }}
{%- endif %}
`.trim()

/** Qwen3.6 writes scalars in calls as JSON, where Qwen3.5 has Python's `True` and `None`. */
export const QWEN3_6 = QWEN3_5.replace('nested else value | string', 'value is not string else value')
