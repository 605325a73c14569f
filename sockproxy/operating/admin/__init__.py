"""The admin listener: metrics, health, the open streams, and one live page.

Nothing here is on the data path. What is seen of requests costs nothing while nobody looks.
- `application`: what may be asked, and by whom. Begin here.
- `browsers`, `doors`: what keeps strangers' pages and too many connections out.
- `watchers`: those who are told each second; `live`, `showing`, `overview`, `suggesting`: what they are told.
- `streams`: the streams and tunnels that are open, and their end. `page`: what a browser shows of it all.
"""
