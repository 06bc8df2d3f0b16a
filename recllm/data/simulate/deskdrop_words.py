"""Word lists of the made-up article feed: titles in two languages, sites, user agents, places, kinds of reaction."""

Words = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
_ENDS_EN = ("in 2016", "for small teams", "at scale", "the hard way", "step by step", "with less code", "without the hype", "in practice")
_ENDS_PT = ("em 2016", "para equipes pequenas", "em grande escala", "na prática", "passo a passo", "com menos código", "sem mistério",
            "no dia a dia")  # fmt: skip
# one entry a topic: language -> how a title starts, its middle, its end
TITLES: tuple[dict[str, Words], ...] = (
    {"en": (("an introduction to", "lessons learned from", "what we love about", "ten tips for"),
            ("machine learning", "neural networks", "chatbots", "data pipelines"), _ENDS_EN),
     "pt": (("uma introdução a", "lições aprendidas com", "o que é bom saber sobre", "dez dicas de"),
            ("aprendizado de máquina", "redes neurais", "assistentes virtuais", "análise de dados"), _ENDS_PT)},
    {"en": (("a guide to", "why we moved to", "the case for", "common mistakes with"),
            ("continuous delivery", "microservices", "containers", "automated tests"), _ENDS_EN),
     "pt": (("um guia de", "por que adotamos", "vantagens de", "erros comuns com"),
            ("entrega contínua", "microsserviços", "contêineres", "testes automatizados"), _ENDS_PT)},
    {"en": (("the future of", "how banks use", "the rise of", "questions about"),
            ("digital payments", "open ledgers", "mobile wallets", "insurance apps"), _ENDS_EN),
     "pt": (("o futuro de", "como os bancos usam", "a ascensão de", "perguntas sobre"),
            ("pagamentos digitais", "registros abertos", "carteiras móveis", "seguros pelo celular"), _ENDS_PT)},
    {"en": (("better", "rethinking", "stories about", "a year of"),
            ("retrospectives", "leadership", "remote work", "design sprints"), _ENDS_EN),
     "pt": (("melhores", "repensando", "histórias sobre", "um ano de"),
            ("retrospectivas", "liderança", "trabalho remoto", "oficinas de design"), _ENDS_PT)},
)  # fmt: skip
SITES = {"en": ("https://www.example.com/tech", "https://blog.example.org", "http://news.example.net"),
         "pt": ("https://www.example.com/br/tecnologia", "https://blog.example.org/pt", "http://noticias.example.net")}  # fmt: skip

_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
AGENTS = (
    f"Mozilla/5.0 (Windows NT 10.0; WOW64) {_WEBKIT} Chrome/51.0.2704.103 Safari/537.36",
    f"Mozilla/5.0 (Windows NT 6.1; WOW64) {_WEBKIT} Chrome/50.0.2661.102 Safari/537.36",
    f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT} Chrome/52.0.2743.116 Safari/537.36",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_5) {_WEBKIT} Chrome/51.0.2704.103 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_5) AppleWebKit/601.6.17 (KHTML, like Gecko) Version/9.1.1 Safari/601.6.17",
    "Mozilla/5.0 (Windows NT 10.0; WOW64; rv:47.0) Gecko/20100101 Firefox/47.0",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:46.0) Gecko/20100101 Firefox/46.0",
    "Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/46.0.2486.0 Safari/537.36 Edge/13.10586",
    f"Mozilla/5.0 (Linux; Android 6.0.1; SM-G920V) {_WEBKIT} Chrome/51.0.2704.81 Mobile Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 9_3_2 like Mac OS X) AppleWebKit/601.1.46 (KHTML, like Gecko) Version/9.0 Mobile/13F69 "
    "Safari/601.1",
    "Mozilla/5.0 (iPad; CPU OS 9_3_2 like Mac OS X) AppleWebKit/601.1.46 (KHTML, like Gecko) Version/9.0 Mobile/13F69 Safari/601.1",
    "Android - Native Mobile App",
    "iOS - Native Mobile App",
)
PLACES = (("SP", "BR", 0.62), ("MG", "BR", 0.17), ("RJ", "BR", 0.05), ("NY", "US", 0.05), ("GA", "US", 0.04), ("TX", "US", 0.03),
          ("11", "KR", 0.02), ("NSW", "AU", 0.01), ("?", "JP", 0.01))  # region, country, share  # fmt: skip
REACTIONS = {"LIKE": 0.51, "BOOKMARK": 0.23, "COMMENT CREATED": 0.15, "FOLLOW": 0.11}
